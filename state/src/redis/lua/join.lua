-- Makes a connection a member. After channel.lua and presence.lua.
--
-- ARGV[4] user  ARGV[5] name  ARGV[6] connection  ARGV[7] gateway
-- ARGV[8] the gateway's generation
-- ARGV[9] limit of users; empty: none
--
-- Answers the number of users (-1: full) and the version of the roster.

if redis.call('HEXISTS', KEYS[3], ARGV[6]) == 1 then
    return roster()
end
local limit = tonumber(ARGV[9])
if limit and user_count() >= limit and connections_of(ARGV[4]) == 0 then
    return { -1, '0' }
end
redis.call('HSET', KEYS[5], ARGV[7], ARGV[8])
add_member({ user = ARGV[4], name = ARGV[5], connection = ARGV[6], gateway = ARGV[7] })
return roster()
