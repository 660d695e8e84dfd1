-- Brings back the last change that somebody has heard of, if the store has lost it. After channel.lua.
--
-- ARGV[4] its epoch; then, unless it freed the floor:
-- ARGV[5] user  ARGV[6] name  ARGV[7] connection  ARGV[8] gateway  ARGV[9] node
-- ARGV[10] since when
--
-- Answers 'recovered' or 'unchanged', with the floor. The lease is as long as it may be: nobody knows when it was renewed
-- last, and the gate of the talk may be open for as long.

local last = load_floor()
local epoch = tonumber(ARGV[4])
if epoch <= last.epoch then
    return answer('unchanged', last)
end
local floor = { epoch = epoch }
if ARGV[5] then
    local taken = math.min(tonumber(ARGV[10]), now_ms)
    floor.holder = {
        user = ARGV[5], name = ARGV[6], connection = ARGV[7], gateway = ARGV[8], node = ARGV[9],
        taken = taken, lease = longest_lease(taken),
    }
end
keep_change(last, floor, floor.holder and 'taken' or 'released')
return answer('recovered', floor)
