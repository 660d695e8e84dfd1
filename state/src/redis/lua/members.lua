-- The users. After channel.lua.
--
-- Answers user, number of connections and name, user, ...

return redis.call('HGETALL', KEYS[4])
