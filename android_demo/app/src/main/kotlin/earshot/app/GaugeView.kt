package earshot.app

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.util.AttributeSet
import android.view.View

private const val LIMIT_AT = 0.8f // of the width: there is room to see by how much a limit is passed

/** A bar that fills towards a limit, and changes its colour beyond it. */
class GaugeView(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val paint = Paint(Paint.ANTI_ALIAS_FLAG)
    private var share = 0f // of the limit
    private var hasLimit = false

    init {
        importantForAccessibility = IMPORTANT_FOR_ACCESSIBILITY_NO // the number beside it says the same
    }

    /** Show a value against its limit, null being none. */
    fun show(value: Double, limit: Double?) {
        share = if (limit == null) 0f else (value / limit).toFloat()
        hasLimit = limit != null
        invalidate()
    }

    override fun onDraw(canvas: Canvas) {
        val thick = height / 2f
        val top = (height - thick) / 2
        fun bar(to: Float) = canvas.drawRoundRect(0f, top, to, top + thick, thick / 2, thick / 2, paint)
        paint.color = context.getColor(R.color.track)
        bar(width.toFloat())
        if (!hasLimit) return
        if (share > 0) {
            paint.color = context.getColor(if (share > 1) R.color.error else R.color.accent)
            bar((width * LIMIT_AT * share).coerceIn(thick, width.toFloat()))
        }
        paint.color = context.getColor(R.color.ink_soft)
        val mark = width * LIMIT_AT
        canvas.drawRoundRect(mark - thick / 6, 0f, mark + thick / 6, height.toFloat(), thick / 6, thick / 6, paint)
    }
}
