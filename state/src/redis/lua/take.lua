-- Somebody presses. After channel.lua.
--
-- ARGV[4] user  ARGV[5] name  ARGV[6] connection  ARGV[7] gateway  ARGV[8] node
-- ARGV[9] epoch of a floor that may be taken over; empty: none
--
-- Answers 'granted', 'renewed' or 'busy', with the floor.

local floor = current_floor()
local holder = floor.holder
local owner = { user = ARGV[4], name = ARGV[5], connection = ARGV[6], gateway = ARGV[7] }
if holder and not is_over(holder) then
    if is_same_connection(holder, owner) then
        return answer('renewed', extend(moved(floor, owner), ARGV[8]))
    end
    if ARGV[9] ~= text(floor.epoch) or holder.user ~= owner.user then
        return answer('busy', floor)
    end
end
return answer('granted', change(floor, {
    user = owner.user, name = owner.name, connection = owner.connection, gateway = owner.gateway,
    node = ARGV[8], taken = now_ms, lease = longest_lease(now_ms),
}, 'taken'))
