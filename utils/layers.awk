# awk -f utils/layers.awk src/LAYERS src/*/*.[ch]    prints every forbidden #include, exits 1 if any
function glob(g) { gsub(/[.]/, "[.]", g); gsub(/[*]/, ".*", g); return "^" g "$" }
BEGIN { split("assert errno inttypes limits math stdarg stdbool stddef stdint stdio stdlib string", s)
        for (i in s) libc["<" s[i] ".h>"] = 1 }
FILENAME == ARGV[1] {
    if ($0 !~ /^#/ && NF) { known[$1] = 1; for (i = 2; i <= NF; i++) may[$1] = may[$1] " " $i }
    next
}
FNR == 1 { n = split(FILENAME, p, "/"); from = p[n - 1]
           if (!(from in known)) complain("module " from " is not in src/LAYERS") }
/^#include "/ { split($2, q, /["\/]/); to = q[2]
    if (to != from && index(may[from] " ", " " to " ") == 0) complain(from " may not include " to)
    if (to != from && $2 ~ /_int\.h"/) complain($2 " is private to " to) }
/^#include </ && !($2 in libc) { n = split(may[from], a, " "); hit = 0
    for (i = 1; i <= n; i++) if (a[i] ~ /^</ && $2 ~ glob(a[i])) hit = 1
    if (!hit) complain(from " may not include " $2) }
function complain(what) { print FILENAME ":" FNR ": " what; bad = 1 }
END { exit bad }
