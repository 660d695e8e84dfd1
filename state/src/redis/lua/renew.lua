-- The holder's gateway still has it on the line. After channel.lua.
--
-- ARGV[4] user  ARGV[5] connection  ARGV[6] gateway  ARGV[7] epoch  ARGV[8] node
--
-- Answers 'renewed' or 'unchanged', with the floor.

local floor = current_floor()
local owner = { user = ARGV[4], connection = ARGV[5], gateway = ARGV[6] }
if is_held_through(floor, owner) and ARGV[7] == text(floor.epoch) and not is_over(floor.holder) then
    return answer('renewed', extend(floor, ARGV[8]))
end
return answer('unchanged', floor)
