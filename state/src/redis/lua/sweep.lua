-- Removes the members of a gateway that is gone. After channel.lua and presence.lua.
--
-- ARGV[4] gateway  ARGV[5] the generation that is gone
--
-- Answers the number of members removed. A gateway that has come back meanwhile has restored its members under a newer
-- generation: those stay. Of many gateways that notice, one finds somebody to remove.
--
-- A floor that one of them holds is left to its lease: the gate of that talk may be open at a media node until then.

local kept = tonumber(redis.call('HGET', KEYS[5], ARGV[4]) or '0')
if kept > tonumber(ARGV[5]) then
    return 0
end
local floor = current_floor()
if floor.holder and floor.holder.gateway == ARGV[4] and is_over(floor.holder) then
    free(floor, 'expired')
end
local members = members_of(ARGV[4])
for _, owner in ipairs(members) do
    remove_member(owner, 'disconnected')
end
redis.call('HDEL', KEYS[5], ARGV[4])
return #members
