package earshot.app

import earshot.Endpoint
import earshot.Final
import earshot.Moved
import earshot.OperatingPoint
import earshot.Overrun
import earshot.Partial
import earshot.Result
import earshot.decoding.Rule
import org.junit.Assert.assertEquals
import org.junit.Test

/** What the screen shows of the events of a stream. */
class ListenStateTest {
    private fun endpoint(text: String) = Endpoint(2.0, Rule.PAUSE, "", text, emptyList(), 0.0, 1.0, emptyList())

    private fun lost(seconds: Double) = Overrun(1.0, "audio", 30.0, 30.0, 30.0, "refused", seconds)

    @Test
    fun `the tail that may change is told apart`() {
        val state = ListenState().after(Partial(1.0, "the old hou", "the old", emptyList()))
        assertEquals("the old", state.stable)
        assertEquals(" hou", state.unstable)
        assertEquals("the old hou", state.text)
    }

    @Test
    fun `a segment is a line, and one without words is none`() {
        val state = ListenState()
            .after(Partial(1.0, "one", "one", emptyList()))
            .after(endpoint("one"))
            .after(endpoint(""))
            .after(Partial(3.0, "two", "", emptyList()))
        assertEquals(listOf("one"), state.segments)
        assertEquals("one\ntwo", state.text)
    }

    @Test
    fun `the final event ends what is open, with its own endpoints and decisions`() {
        val result = Result("one two", emptyList(), emptyList(), 3.0, 1.0)
        val moved = Moved(2.5, OperatingPoint(320), OperatingPoint(640), "rtf")
        val withEndpoint = ListenState().after(Final(3.0, emptyList(), result, listOf(endpoint("one two")), listOf(moved)))
        assertEquals("one two", withEndpoint.text)
        assertEquals(listOf(moved), withEndpoint.decisions)
        val without = ListenState(stable = "one", unstable = " two")
            .after(Final(3.0, emptyList(), result, emptyList(), emptyList()))
        assertEquals(listOf("one two"), without.segments)
        assertEquals("", without.stable)
    }

    @Test
    fun `lost audio is added up and shown`() {
        val state = ListenState().after(lost(0.5)).after(lost(1.0))
        assertEquals(Notice(R.string.audio_lost, 1.5), state.notice)
    }
}
