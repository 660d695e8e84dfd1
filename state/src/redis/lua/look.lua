-- Nothing but a look. After channel.lua.
--
-- Answers 'unchanged', with the floor.

return answer('unchanged', current_floor())
