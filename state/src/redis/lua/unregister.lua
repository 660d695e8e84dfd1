-- A media node leaves. Stands alone.
--
-- KEYS[1] nodes  KEYS[2] leases, as in register.lua
-- ARGV[1] node
--
-- Answers nothing.

redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
