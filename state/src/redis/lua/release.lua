-- The holder gives the floor back. After channel.lua.
--
-- ARGV[4] connection  ARGV[5] epoch; empty: any  ARGV[6] cause
--
-- Answers 'freed' or 'unchanged', with the floor.

local floor = current_floor()
local this_talk = ARGV[5] == '' or ARGV[5] == text(floor.epoch)
if this_talk and floor.holder and floor.holder.connection == ARGV[4] then
    return answer('freed', free(floor, ARGV[6]))
end
return answer('unchanged', floor)
