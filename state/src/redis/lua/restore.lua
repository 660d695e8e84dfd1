-- Makes the members of one gateway exactly those that it says it has: after the store lost writes, or took the gateway
-- for dead. After channel.lua and presence.lua.
--
-- ARGV[4] gateway  ARGV[5] its generation  ARGV[6] JSON array of its members, each with
-- since when
--
-- A floor that one of the others holds is left to its lease, as in sweep.lua.
--
-- Answers the connections that are another gateway's by now, later than they were this one's. No limit applies: the
-- others are there already.

local there = cjson.decode(ARGV[6])
local is_there = {}
for _, owner in ipairs(there) do
    is_there[owner.connection] = true
end
for _, owner in ipairs(members_of(ARGV[4])) do
    if not is_there[owner.connection] then
        remove_member(owner, 'disconnected')
    end
end
local elsewhere = {}
for _, owner in ipairs(there) do
    local member = member_of(owner.connection)
    if not member then
        -- A join that is under way is not told since when; it asks again in a moment.
        add_member(owner, since(owner) > 0 and since(owner) or now_ms)
    elseif member.gateway ~= owner.gateway then
        if since(owner) > since(member) then
            keep_member(owner, since(owner))
        else
            elsewhere[#elsewhere + 1] = owner.connection
        end
    end
end
if #there > 0 then
    redis.call('HSET', KEYS[5], ARGV[4], ARGV[5])
else
    redis.call('HDEL', KEYS[5], ARGV[4])
end
return elsewhere
