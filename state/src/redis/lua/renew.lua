-- The holder's gateway still has it on the line. After channel.lua.
--
-- ARGV[4] connection  ARGV[5] epoch
--
-- Answers 'renewed' or 'unchanged', with the floor.

local floor = current_floor()
local holder = floor.holder
if holder and holder.connection == ARGV[4] and ARGV[5] == text(floor.epoch)
    and longest_lease(holder.taken) > now_ms then
    return answer('renewed', extend(floor))
end
return answer('unchanged', floor)
