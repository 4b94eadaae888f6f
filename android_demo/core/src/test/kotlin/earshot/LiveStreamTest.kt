package earshot

import earshot.engines.EncoderState
import earshot.engines.Engine
import java.util.Random
import kotlin.concurrent.thread
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows

/** The queue before a stream: nothing is lost that it took, and what it did not take is told. */
class LiveStreamTest {
    private fun stream(engine: Engine = SilentEngine(), supervisor: Supervisor? = null) = Stream(
        engine,
        earshot.decoding.GreedySearch(engine),
        listOf("<blk>", "<unk>"),
        FeatureConfig(),
        StreamingConfig(),
        supervisor = supervisor,
    )

    @Test
    fun `all that is pushed is heard, in a thread of its own`() {
        val live = LiveStream(stream())
        val producer = thread {
            repeat(300) { assertTrue(live.push(ShortArray(160))) }
            live.close()
        }
        while (live.await()) live.take()
        producer.join()
        assertEquals(3.0, live.finish().result.durationS)
        assertFalse(live.push(ShortArray(160)))
    }

    /** Blocks are used again: none may be heard with what an earlier, longer one left in it. */
    @Test
    fun `what is heard is what was pushed, whatever the blocks' lengths`() {
        val sizes = listOf(800, 3_000, 1, 799, 0, 801, 16_000, 640)
        val random = Random(3)
        val blocks = List(40) { number -> ShortArray(sizes[number % sizes.size]) { random.nextInt(20_000).toShort() } }
        val expected = HearingEngine()
        val whole = stream(expected)
        for (block in blocks) whole.accept(block)
        whole.finish()
        val heard = HearingEngine()
        val live = LiveStream(stream(heard))
        for ((number, block) in blocks.withIndex()) {
            assertTrue(live.push(block))
            block.fill(0) // it was copied
            if (number % 3 == 2) repeat(3) { live.take() }
        }
        live.close()
        while (live.await()) live.take()
        live.finish()
        assertTrue(expected.sums.size > 20)
        assertEquals(expected.sums, heard.sums)
    }

    @Test
    fun `a full queue refuses, and says how much`() {
        val live = LiveStream(stream(), queueS = 1.0)
        assertTrue(live.push(ShortArray(20_000)), "an empty queue takes a block of any length")
        assertFalse(live.push(ShortArray(1_600)))
        assertFalse(live.push(ShortArray(1_600)))
        val overrun = live.take().filterIsInstance<Overrun>().single()
        assertEquals("audio", overrun.budget)
        assertEquals(0.2, overrun.refusedS, 1e-9)
        assertEquals("refused 0.20 s of audio: the queue is full", overrun.action)
        assertTrue(live.push(ShortArray(1_600)))
        assertThrows<AsrError> { live.finish() }
        live.take()
        assertEquals(21_600 / 16_000.0, live.finish().result.durationS)
        assertEquals(0.2, live.stream.report().lostAudioS, 1e-9)
    }

    @Test
    fun `a stream that memory ends gives its text, and what waited is counted as lost`() {
        val engine = SilentEngine()
        val governor = Governor(Budget(memoryMb = 100.0), mapOf(OperatingPoint(320) to 1.0))
        val live = LiveStream(stream(engine, Supervisor(governor, engine::releaseMemory, resident = { 120.0 })))
        repeat(3) { live.push(ShortArray(16_000)) }
        val ended = assertThrows<BudgetExceeded> { live.take() }
        assertTrue("120.0 MB of memory with a budget of 100 MB" in ended.message!!)
        assertEquals("memory", ended.events.filterIsInstance<Overrun>().single().budget)
        assertEquals(1, engine.released)
        assertEquals(2.0, live.stream.report().lostAudioS, 0.01)
        assertFalse(live.await())
    }

    @Test
    fun `a hot phone goes to a cheaper point, and its books keep what was measured`() {
        val points = listOf(320, 640).map(::OperatingPoint)
        val governor = Governor(Budget(rtf = 0.1), mapOf(points[0] to 0.02, points[1] to 0.01))
        val supervisor = Supervisor(governor, {})
        supervisor.heat = 4.0
        val events = ArrayList<Event>()
        repeat(10) { supervisor.observe(Measurement(0.32 * it, points[0], 0.32, 0.05 * 0.32), 0.0, events) }
        assertEquals(points[1], supervisor.point)
        assertEquals(1, events.filterIsInstance<Moved>().size)
        assertEquals(0.05, supervisor.report().rtf, 1e-9)
    }
}

/** Notes the features of each chunk. */
private class HearingEngine(private val silent: Engine = SilentEngine()) : Engine by silent {
    val sums = ArrayList<Double>()

    override fun encode(features: Frames, rows: Int, state: EncoderState): Frames {
        sums += features.copy(0, rows).sumOf { it.toDouble() }
        return silent.encode(features, rows, state)
    }
}
