package earshot

import java.math.BigDecimal
import java.math.MathContext
import java.math.RoundingMode

/** Numbers in messages and times, as Python writes and rounds them: exactly, a tie to the even digit. */

/** Python's `f"{value:.{digits}g}"`. */
fun general(value: Double, digits: Int = 6): String {
    if (value.isNaN()) return "nan"
    if (value.isInfinite()) return if (value > 0) "inf" else "-inf"
    if (value == 0.0) return "0"
    val rounded = BigDecimal(value).round(MathContext(digits, RoundingMode.HALF_EVEN))
    val exponent = rounded.precision() - rounded.scale() - 1
    if (exponent in -4 until digits) return rounded.stripTrailingZeros().toPlainString()
    val mantissa = rounded.movePointLeft(exponent).stripTrailingZeros().toPlainString()
    val sign = if (exponent < 0) "-" else "+"
    return "${mantissa}e$sign${Math.abs(exponent).toString().padStart(2, '0')}"
}

/** Python's `f"{value:.{decimals}f}"` of a finite number. */
fun fixed(value: Double, decimals: Int): String = rounded(value, decimals).toPlainString()

/** Python's `round(value, decimals)` of a finite number. */
fun round(value: Double, decimals: Int): Double = rounded(value, decimals).toDouble()

private fun rounded(value: Double, decimals: Int) =
    BigDecimal(value).setScale(decimals, RoundingMode.HALF_EVEN)
