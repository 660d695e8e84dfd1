-- Ends a membership; nothing that the connection has here outlives it. After channel.lua and presence.lua.
--
-- ARGV[4] connection  ARGV[5] 'left' or 'disconnected'
--
-- Answers the number of users that remain.

leave_floor(ARGV[4])
local json = redis.call('HGET', KEYS[3], ARGV[4])
if json then
    remove_member(cjson.decode(json), ARGV[5])
end
return user_count()
