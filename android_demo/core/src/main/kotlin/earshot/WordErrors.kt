package earshot

/** Word errors of [found] against [reference]: the fewest insertions, deletions and substitutions. */
fun wordErrors(reference: String, found: String): Int {
    val wanted = words(reference)
    var row = IntArray(wanted.size + 1) { it }
    for (word in words(found)) {
        val next = IntArray(row.size)
        next[0] = row[0] + 1
        for (i in wanted.indices) {
            next[i + 1] = minOf(row[i + 1] + 1, next[i] + 1, row[i] + if (wanted[i] == word) 0 else 1)
        }
        row = next
    }
    return row[wanted.size]
}

fun words(text: String): List<String> = text.split(" ").filter { it.isNotEmpty() }
