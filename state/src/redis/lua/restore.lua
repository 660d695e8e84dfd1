-- Makes the members of one gateway exactly those that it says it has: after the store lost writes, or took the gateway
-- for dead. After channel.lua and presence.lua.
--
-- ARGV[4] gateway  ARGV[5] its generation  ARGV[6] JSON array of its members
--
-- Answers the number of users. No limit applies: they are there already.

local there = cjson.decode(ARGV[6])
local is_there = {}
for _, owner in ipairs(there) do
    is_there[owner.connection] = true
end
for _, owner in ipairs(members_of(ARGV[4])) do
    if not is_there[owner.connection] then
        leave_floor(owner)
        remove_member(owner, 'disconnected')
    end
end
for _, owner in ipairs(there) do
    if redis.call('HEXISTS', KEYS[3], owner.connection) == 0 then
        add_member(owner)
    end
end
if #there > 0 then
    redis.call('HSET', KEYS[5], ARGV[4], ARGV[5])
else
    redis.call('HDEL', KEYS[5], ARGV[4])
end
return user_count()
