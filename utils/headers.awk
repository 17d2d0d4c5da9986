# awk -f utils/headers.awk src/*/*.h    every header says what it is for; prints what is missing
#
# A public header opens with its name and one sentence, then has the six labels in their order. A
# private one (*_int.h) may leave labels out, but not change their order.
BEGIN { count = split("PURPOSE OWNS USES THREADS LIMITS ERRORS", label)
        for (i = 1; i <= count; i++) place[label[i]] = i }
FNR == 1 {
    finish()
    file = FILENAME
    private = file ~ /_int[.]h$/
    reached = 0
    inside = 1
    name = file
    sub(/^src\//, "", name)
    if (index($0, "/* " name " - ") != 1) complain("must begin with \"/* " name " - \"")
}
inside && /^ \* [A-Z]+  / && ($2 in place) {
    if (place[$2] <= reached) complain($2 " is out of order")
    if (!private && place[$2] > reached + 1) complain(label[reached + 1] " is missing before " $2)
    reached = place[$2]
}
inside && /\*\// { inside = 0 }
function finish() {
    if (file != "" && !private && reached < count) complain_at(file, label[reached + 1] " is missing")
}
function complain(what) { complain_at(FILENAME ":" FNR, what) }
function complain_at(where, what) { print where ": " what; bad = 1 }
END { finish(); exit bad }
