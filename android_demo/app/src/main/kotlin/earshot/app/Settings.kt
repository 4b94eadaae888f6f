package earshot.app

import android.content.Context
import earshot.Budget

private const val MODEL = "model"
private const val RTF = "budget_rtf"
private const val MEMORY = "budget_memory_mb"
private const val LATENCY = "budget_latency_ms"
private const val NO_LIMIT = 0f

/** What the user chose, kept over restarts. */
class Settings(context: Context) {
    private val kept = context.getSharedPreferences("settings", Context.MODE_PRIVATE)

    /** The name of the model's zip; null: the built-in one. */
    var model: String?
        get() = kept.getString(MODEL, null)
        set(value) = kept.edit().putString(MODEL, value).apply()

    /** What each stream is held to. */
    var budget: Budget
        get() = Budget(limit(RTF, 0.2f), limit(MEMORY, 400f), limit(LATENCY, NO_LIMIT))
        set(value) = kept.edit()
            .putFloat(RTF, value.rtf?.toFloat() ?: NO_LIMIT)
            .putFloat(MEMORY, value.memoryMb?.toFloat() ?: NO_LIMIT)
            .putFloat(LATENCY, value.latencyMs?.toFloat() ?: NO_LIMIT)
            .apply()

    // By its digits: 0.2f is 0.20000000298 as a double.
    private fun limit(key: String, otherwise: Float): Double? =
        kept.getFloat(key, otherwise).takeIf { it > 0 }?.toString()?.toDouble()
}
