-- All channels of a dead gateway have been cleaned up: forgets it, unless it has come back meanwhile. Stands alone.
--
-- KEYS[1] dead  KEYS[2] generations, as in beat.lua
-- ARGV[1] gateway  ARGV[2] the generation that is gone
--
-- Answers 1 if it is forgotten now.

if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then
    return 0
end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
