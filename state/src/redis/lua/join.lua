-- Makes a connection a member. After channel.lua and presence.lua.
--
-- ARGV[4] user  ARGV[5] name  ARGV[6] connection  ARGV[7] gateway
-- ARGV[8] the gateway's generation
-- ARGV[9] limit of users; empty: none
--
-- Answers the number of users (-1: full) and the version of the roster.

local owner = { user = ARGV[4], name = ARGV[5], connection = ARGV[6], gateway = ARGV[7] }
-- Also of who is no member: the floor outlives a membership that ended with its gateway.
moved(current_floor(), owner)
local member = member_of(owner.connection)
if member then
    if member.user == owner.user then
        redis.call('HSET', KEYS[3], owner.connection, cjson.encode(owner))
        redis.call('HSET', KEYS[5], owner.gateway, ARGV[8])
    end
    return roster()
end
local limit = tonumber(ARGV[9])
if limit and user_count() >= limit and connections_of(owner.user) == 0 then
    return { -1, '0' }
end
redis.call('HSET', KEYS[5], owner.gateway, ARGV[8])
add_member(owner)
return roster()
