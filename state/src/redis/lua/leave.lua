-- Ends a membership; nothing that the connection has here outlives it. After channel.lua and presence.lua.
--
-- ARGV[4] user  ARGV[5] connection  ARGV[6] gateway  ARGV[7] 'left' or 'disconnected'
--
-- Answers the number of users that remain.

local owner = { user = ARGV[4], connection = ARGV[5], gateway = ARGV[6] }
leave_floor(owner)
local member = member_of(owner.connection)
if member and member.user == owner.user and member.gateway == owner.gateway then
    remove_member(member, ARGV[7])
end
return user_count()
