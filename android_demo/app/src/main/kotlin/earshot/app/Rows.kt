package earshot.app

import kotlin.math.ceil
import org.json.JSONArray
import org.json.JSONObject

/** The figures of a benchmark as `asr bench` keeps them: see asr/evaluation/bench/rows.py. */

/** One figure: a value, or the reason why there is none. */
data class Row(
    val value: Double?,
    val unit: String,
    val reason: String? = null,
    val spread: Pair<Double, Double>? = null, // quartiles over the repetitions
    val n: Int = 1,
    val source: String? = null,
) {
    init {
        require((value == null) != (reason == null)) { "a value of $value and the reason $reason; expected one" }
        require(value == null || value.isFinite()) { "a value of $value; expected a finite number" }
    }

    fun toJson(): JSONObject = JSONObject()
        .put("value", value ?: JSONObject.NULL)
        .put("unit", unit)
        .put("reason", reason ?: JSONObject.NULL)
        .put("spread", spread?.let { JSONArray(listOf(it.first, it.second)) } ?: JSONObject.NULL)
        .put("n", n)
        .put("source", source ?: JSONObject.NULL)
}

fun notAvailable(unit: String, reason: String) = Row(null, unit, reason)

/** What was measured once. */
fun figure(value: Double, unit: String, source: String? = null) = Row(value, unit, source = source)

/** The median of what was measured several times. */
fun figure(values: List<Double>, unit: String, source: String? = null): Row {
    val spread = if (values.size > 1) quantile(values, 0.25) to quantile(values, 0.75) else null
    return Row(quantile(values, 0.5), unit, null, spread, values.size, source)
}

/** The value below which [percent] of the values lie, the nearest rank. */
fun percentile(values: List<Double>, percent: Int): Double =
    values.sorted()[maxOf(0, ceil(percent / 100.0 * values.size).toInt() - 1)]

/** Between the values, as Python's `statistics.quantiles(method="inclusive")`. */
private fun quantile(values: List<Double>, share: Double): Double {
    val sorted = values.sorted()
    val at = share * (sorted.size - 1)
    val below = at.toInt()
    val above = minOf(below + 1, sorted.lastIndex)
    return sorted[below] + (at - below) * (sorted[above] - sorted[below])
}
