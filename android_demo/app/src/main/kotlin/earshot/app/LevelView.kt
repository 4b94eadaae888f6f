package earshot.app

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.util.AttributeSet
import android.view.View
import kotlin.math.log10

private const val QUIETEST_DB = -60f
private const val BAR_DP = 3f
private const val STEP_DP = 6f
private const val BARS = 64 // more than any screen is wide

/** The level of the last seconds, as bars; the newest on the right. */
class LevelView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val paint = Paint(Paint.ANTI_ALIAS_FLAG)
    private val heights = FloatArray(BARS) // a ring
    private var next = 0

    init {
        importantForAccessibility = IMPORTANT_FOR_ACCESSIBILITY_NO
    }

    /** Add a block of that root mean square, 1 being full scale. */
    fun add(level: Float) {
        heights[next] = if (level <= 0) 0f else (1 - 20 * log10(level) / QUIETEST_DB).coerceIn(0f, 1f)
        next = (next + 1) % BARS
        invalidate()
    }

    /** Nothing is heard any more. */
    fun clear() {
        heights.fill(0f)
        invalidate()
    }

    override fun onDraw(canvas: Canvas) {
        val density = resources.displayMetrics.density
        val bar = BAR_DP * density
        val count = minOf(BARS, (width / (STEP_DP * density)).toInt())
        for (back in 1..count) {
            val level = heights[(next - back + BARS) % BARS]
            val right = width - (back - 1) * STEP_DP * density
            val half = maxOf(bar / 2, level * height / 2)
            paint.color = context.getColor(if (level > 0) R.color.accent else R.color.outline)
            canvas.drawRoundRect(right - bar, height / 2f - half, right, height / 2f + half, bar / 2, bar / 2, paint)
        }
    }
}
