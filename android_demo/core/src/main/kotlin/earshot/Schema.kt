package earshot

import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject
import org.json.JSONTokener

/** Plain data from a file to typed values, with errors that name the key. */

/** Data that doesn't fit. The message names the key; the caller adds the file. */
class SchemaError(message: String) : Exception(message)

/** Parse one JSON object, and nothing behind it. Throws SchemaError. */
fun parseObject(text: String): JSONObject {
    val content: Any
    try {
        val tokens = JSONTokener(text)
        content = tokens.nextValue()
        if (tokens.nextClean() != '\u0000') throw SchemaError("damaged: more text behind the end")
    } catch (error: JSONException) {
        throw SchemaError("damaged: ${error.message}")
    } catch (_: StackOverflowError) { // Android's parser has no limit of its own
        throw SchemaError("damaged: nested too deeply")
    }
    return content as? JSONObject ?: throw SchemaError("expected a JSON object")
}

/** A JSON object with exactly the keys [known]; [where] is its dotted path, empty at the top. */
class Fields(private val content: JSONObject, private val where: String, vararg known: String) {
    init {
        for (key in content.keys()) {
            if (key in known) continue
            val nearest = known.minByOrNull { distance(key, it) }
            val hint = if (nearest != null && distance(key, nearest) <= maxOf(key.length, nearest.length) / 2) {
                "did you mean '$nearest'?"
            } else {
                "known: ${known.joinToString(", ")}"
            }
            throw SchemaError("unknown key '${path(key)}'; $hint")
        }
        for (key in known) {
            if (!content.has(key)) throw SchemaError("missing key '${path(key)}'")
        }
    }

    fun text(key: String): String = content.get(key) as? String ?: throw wrong(key, "text")

    fun int(key: String): Int = content.get(key) as? Int ?: throw wrong(key, "int")

    fun long(key: String): Long = when (val value = content.get(key)) {
        is Int -> value.toLong()
        is Long -> value
        else -> throw wrong(key, "int")
    }

    fun float(key: String): Double {
        val value = (content.get(key) as? Number)?.toDouble()
        if (value == null || !value.isFinite()) throw wrong(key, "float")
        return value
    }

    fun json(key: String): JSONObject = content.get(key) as? JSONObject ?: throw wrong(key, "an object")

    /** A list of objects, at least one. */
    fun list(key: String): List<JSONObject> {
        val list = content.get(key) as? JSONArray
        if (list == null || list.length() == 0) throw wrong(key, "a list")
        return List(list.length()) {
            list.get(it) as? JSONObject
                ?: throw SchemaError("${path(key)}.$it: expected an object, got ${quoted(list.get(it))}")
        }
    }

    private fun wrong(key: String, expected: String) =
        SchemaError("${path(key)}: expected $expected, got ${quoted(content.get(key))}")

    private fun path(key: String) = if (where.isEmpty()) key else "$where.$key"
}

/** Read each member of an object as an object of its own; [where] is the object's dotted path. */
fun <T> readMembers(content: JSONObject, where: String, read: (JSONObject, String) -> T): Map<String, T> =
    content.keys().asSequence().associateWith { key ->
        val path = "$where.$key"
        val member = content.get(key)
        read(member as? JSONObject ?: throw SchemaError("$path: expected an object, got ${quoted(member)}"), path)
    }

private fun quoted(value: Any): String = when (value) {
    is String -> "'$value'"
    is JSONObject, is JSONArray -> value.toString().take(40)
    else -> value.toString()
}

/** How many letters differ (Levenshtein). */
private fun distance(a: String, b: String): Int {
    var row = IntArray(b.length + 1) { it }
    for (i in a.indices) {
        val next = IntArray(b.length + 1)
        next[0] = i + 1
        for (j in b.indices) {
            next[j + 1] = minOf(row[j + 1] + 1, next[j] + 1, row[j] + if (a[i] == b[j]) 0 else 1)
        }
        row = next
    }
    return row[b.length]
}
