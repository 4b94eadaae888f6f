package earshot

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test

/** Python's numbers: those of the messages that the golden vectors have not. */
class FormattingTest {
    @Test
    fun `numbers are written as Python writes them`() {
        val written = listOf(0.0 to "0", 100.0 to "100", 0.00012345 to "0.000123", 1234.5 to "1.23e+03", 1e-7 to "1e-07")
        for ((value, text) in written) assertEquals(text, general(value, 3))
        assertEquals("1e+06", general(1e6))
        assertEquals("inf", general(Double.POSITIVE_INFINITY))
        assertEquals("2", fixed(2.5, 0)) // to the even one
        assertEquals(0.125, round(0.12500000001, 3))
    }
}
