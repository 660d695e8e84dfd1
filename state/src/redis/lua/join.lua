-- Makes a connection a member, or moves it here from another gateway. After channel.lua and presence.lua.
--
-- ARGV[4] user  ARGV[5] name  ARGV[6] connection  ARGV[7] gateway
-- ARGV[8] the gateway's generation
-- ARGV[9] limit of users; empty: none
--
-- Answers the number of users (-1: full), the version of the roster, and since when the connection is this gateway's.

local owner = { user = ARGV[4], name = ARGV[5], connection = ARGV[6], gateway = ARGV[7] }
local member = member_of(owner.connection)
if not member then
    local limit = tonumber(ARGV[9])
    if limit and user_count() >= limit and connections_of(owner.user) == 0 then
        return { -1, '0', '0' }
    end
    add_member(owner, now_ms)
elseif member.user == owner.user and member.gateway ~= owner.gateway then
    keep_member(owner, math.max(since(member) + 1, now_ms))
else
    moved(current_floor(), member)
    owner = member
end
redis.call('HSET', KEYS[5], ARGV[7], ARGV[8])
local users, version = unpack(roster())
return { users, version, text(since(owner)) }
