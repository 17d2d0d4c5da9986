# awk -f utils/words.awk src/*/*.[ch]    words that this tree does without; prints where they are
FNR == 1 { comment = 0 }
/TODO|FIXME/ { complain("unfinished work") }
{
    code = $0
    gsub(/\\./, "", code)
    gsub(/"[^"]*"/, "\"\"", code)      # what is in quotes is text
    if (comment) { if (code !~ /\*\//) next; sub(/^.*\*\//, "", code); comment = 0 }
    gsub(/\/\*.*\*\//, "", code)
    if (code ~ /\/\*/) { sub(/\/\*.*/, "", code); comment = 1 }
    code = " " code
}
code ~ /[^a-z_0-9]goto[^a-z_0-9]/ { complain("goto: return early, clean up with CLEANUP") }
code ~ /typedef struct/ { complain("typedef hides a struct") }
code ~ /[^a-z_0-9](strcpy|strcat|sprintf|vsprintf|gets|strtok|alloca)\(/ { complain("has no bound") }
code ~ /[^a-z_0-9](rand|srand|random|srandom)\(/ { complain("randomness comes from outside") }
code ~ /[^a-z_0-9](malloc|calloc|realloc|strdup|strndup)\(/ && FILENAME != "src/base/base.c" {
    complain("memory comes from mem_*")
}
function complain(what) { print FILENAME ":" FNR ": " what; bad = 1 }
END { exit bad }
