-- Put in front of the other scripts: which of two events is newer. Times are milliseconds, exact in a double; a
-- sequence number may have 64 bits, more than a double holds, and is compared as text.
local function is_greater(a, b)
  local a_negative, b_negative = a:sub(1, 1) == '-', b:sub(1, 1) == '-'
  if a_negative ~= b_negative then return b_negative end
  if #a ~= #b then return (#a > #b) ~= a_negative end
  if a == b then return false end
  return (a > b) ~= a_negative
end

local function is_newer(time_a, seq_a, time_b, seq_b)
  local a, b = tonumber(time_a), tonumber(time_b)
  if a ~= b then return a > b end
  return is_greater(seq_a, seq_b)
end
