-- Nothing is decided on a floor that is older than one that the caller has heard of: the store has lost writes. After
-- channel.lua, in front of the scripts that decide about a floor.
--
-- ARGV[last - 1] the trace that this belongs to; empty: none
-- ARGV[last] the epoch of the last change that the caller has heard of; empty: of none
--
-- Answers 'behind', with the floor as it is kept. The caller then tells what it knows, by recover.lua, and asks again.

trace = ARGV[#ARGV - 1]

do
    local known = tonumber(ARGV[#ARGV])
    local kept = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
    if known and known > kept then
        return answer('behind', { epoch = kept })
    end
end
