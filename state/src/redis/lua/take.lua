-- Somebody presses. After channel.lua.
--
-- ARGV[4] user  ARGV[5] name  ARGV[6] connection  ARGV[7] gateway
-- ARGV[8] epoch of a floor that may be taken over; empty: none
--
-- Answers 'granted', 'renewed' or 'busy', with the floor.

local floor = current_floor()
local holder = floor.holder
if holder and not is_over(holder) then
    if holder.connection == ARGV[6] then
        return answer('renewed', extend(floor))
    end
    if ARGV[8] ~= text(floor.epoch) or holder.user ~= ARGV[4] then
        return answer('busy', floor)
    end
end
return answer('granted', change(floor, {
    user = ARGV[4], name = ARGV[5], connection = ARGV[6], gateway = ARGV[7],
    taken = now_ms, lease = longest_lease(now_ms),
}, 'taken'))
