# awk -f utils/tidy.awk src/*/*.[ch]    sizes, to be read: the longest functions, files and lines,
# and how densely each module asserts. Aims: functions under 70 lines, files under 800, headers
# under 250, 100 columns, an assertion a function.
FNR == 1 { opened = 0; n = split(FILENAME, part, "/"); module = part[n - 1] }
{ file_lines[FILENAME] = FNR }
/ASSERT(_SLOW)?\(/ && !/#define/ { asserts[module]++ }
length($0) > 100 { long_count++; long_in[FILENAME]++ }
/^[a-z_].*\(/ && !/;$/ { head = $0; head_line = FNR; sub(/\(.*/, "", head); sub(/.*[ *]/, "", head) }
/^[{]/ { opened = FNR }
/^[}]$/ && opened {
    functions[module]++
    if (head != "") size[FILENAME ":" head_line " " head] = FNR - opened + 1
    opened = 0
    head = ""
}
# Prints the `limit` largest of `values`; there are few enough to look for each anew.
function largest(values, limit, unit,    i, key, best) {
    for (i = 1; i <= limit; i++) {
        best = ""
        for (key in values) if (best == "" || values[key] > values[best] ||
                                (values[key] == values[best] && key < best)) best = key
        if (best == "") return
        printf "  %5d %s  %s\n", values[best], unit, best
        delete values[best]
    }
}
END {
    print "the ten longest functions:"; largest(size, 10, "lines")
    print "the ten longest files:"; largest(file_lines, 10, "lines")
    printf "lines over 100 columns: %d\n", long_count; largest(long_in, 10, "lines")
    printf "assertions a function:"
    for (m in functions) printf " %s %.1f", m, asserts[m] / functions[m]
    print ""
}
