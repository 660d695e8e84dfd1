-- The holder gives the floor back. After channel.lua.
--
-- ARGV[4] user  ARGV[5] connection  ARGV[6] gateway  ARGV[7] epoch; empty: any  ARGV[8] cause
--
-- Answers 'freed' or 'unchanged', with the floor.

local floor = current_floor()
local owner = { user = ARGV[4], connection = ARGV[5], gateway = ARGV[6] }
local this_talk = ARGV[7] == '' or ARGV[7] == text(floor.epoch)
if this_talk and is_held_through(floor, owner) then
    return answer('freed', free(floor, ARGV[8]))
end
return answer('unchanged', floor)
