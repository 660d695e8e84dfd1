-- The lease may have ended. After channel.lua.
--
-- Answers why it was freed, 'expired' or 'talk_limit', or 'unchanged', with the floor.

local floor = current_floor()
local holder = floor.holder
if holder and is_over(holder) then
    local has_reached_limit = limit_ms and holder.lease >= holder.taken + limit_ms
    local cause = has_reached_limit and 'talk_limit' or 'expired'
    return answer(cause, free(floor, cause))
end
return answer('unchanged', floor)
