-- The lease may have ended. After channel.lua.
--
-- Answers 'freed' or 'unchanged', with the floor.

local floor = current_floor()
local holder = floor.holder
if holder and is_over(holder) then
    local has_reached_limit = limit_ms and holder.lease >= holder.taken + limit_ms
    return answer('freed', free(floor, has_reached_limit and 'talk_limit' or 'expired'))
end
return answer('unchanged', floor)
