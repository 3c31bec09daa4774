-- Tells whether events can follow on what a run is. KEYS: run. ARGV: `taken_up` and the plan of `impossible`.
-- Reply: {}, or {code, text, texts}.
local code, text, texts = impossible(KEYS[1], ARGV, 2, ARGV[1])
return code and {code, text, texts} or {}
