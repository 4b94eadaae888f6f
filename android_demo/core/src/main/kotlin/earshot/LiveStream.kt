package earshot

import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.withLock

/** Seconds of audio that wait at most: beyond it an answer would come too late to be one. */
const val QUEUE_S = 30.0

private const val SPARE_BLOCKS = 4 // that are kept to be used again: more wait only when it falls behind

/**
 * A stream with a bounded queue before it. One thread pushes, another recognises:
 *
 *     live.push(block, count)                  // the capture thread; never blocks
 *     while (live.await()) show(live.take())   // the consumer; until `close`
 *     val final = live.finish()
 *
 * When the consumer falls behind, the queue grows, and its length goes to the stream's governor. Audio is
 * lost only where the queue is full, and never silently: [push] returns false and takes nothing of that
 * block, and the next events hold an [Overrun] that says how much was refused.
 */
class LiveStream(val stream: Stream, private val sampleRate: Int = SAMPLE_RATE, private val queueS: Double = QUEUE_S) {
    /** Seconds of audio that wait. */
    val queuedS: Double get() = lock.withLock { queuedSamples.toDouble() / sampleRate }

    /** The first [count] of [samples] wait. */
    private class Block(val samples: ShortArray) {
        var count = 0
    }

    private val lock = ReentrantLock()
    private val changed = lock.newCondition()
    private val blocks = ArrayDeque<Block>()
    private val spare = ArrayDeque<Block>()
    private var queuedSamples = 0L
    private var refusedS = 0.0 // not yet told in an event
    private var closed = false

    init {
        if (!(queueS > 0)) throw AsrError("a queue of $queueS s; expected more than 0")
    }

    /**
     * Take the first [count] of a block of mono samples; they are copied. False: the queue has no room,
     * or is closed, and this block is lost. An empty queue takes a block of any length.
     */
    fun push(samples: ShortArray, count: Int = samples.size): Boolean = lock.withLock {
        if (closed) return false
        if (count == 0) return true
        if (blocks.isNotEmpty() && queuedSamples + count > queueS * sampleRate) {
            refusedS += count.toDouble() / sampleRate
            return false
        }
        val block = spare.removeLastOrNull()?.takeIf { it.samples.size >= count } ?: Block(ShortArray(count))
        System.arraycopy(samples, 0, block.samples, 0, count)
        block.count = count
        blocks.addLast(block)
        queuedSamples += count
        changed.signalAll()
        true
    }

    /** Say that no more audio follows; what is queued is recognised still. */
    fun close() = lock.withLock {
        closed = true
        changed.signalAll()
    }

    /** Wait until there is something to [take]. False: nothing is left and none will come. */
    fun await(): Boolean = lock.withLock {
        while (blocks.isEmpty() && !closed) changed.await()
        blocks.isNotEmpty()
    }

    /** Recognise the oldest block that waits; return what became known by it. Throws as [Stream.accept]. */
    fun take(): List<Event> {
        val block: Block?
        val refusedNowS: Double
        val queuedBeforeS: Double
        lock.withLock {
            refusedNowS = refusedS
            refusedS = 0.0
            queuedBeforeS = queuedSamples.toDouble() / sampleRate
            block = blocks.removeFirstOrNull()
            queuedSamples -= block?.count ?: 0
        }
        val events = ArrayList<Event>(0)
        if (refusedNowS > 0) {
            stream.queuedS = queuedBeforeS
            events += stream.refuse(refusedNowS, queueS)
        }
        if (block == null) return events
        stream.queuedS = queuedS
        val endS = stream.audioS + block.count.toDouble() / sampleRate
        try {
            events += stream.accept(block.samples, block.count, sampleRate)
        } catch (exceeded: BudgetExceeded) {
            abandon(endS - stream.audioS)
            throw BudgetExceeded(exceeded.message!!, exceeded.result, events + exceeded.events)
        }
        lock.withLock { if (spare.size < SPARE_BLOCKS) spare.addLast(block) }
        return events
    }

    /** End the stream when nothing waits any more. Throws AsrError while audio waits: [take] it first. */
    fun finish(): Final {
        close()
        if (queuedS > 0) throw AsrError("${fixed(queuedS, 2)} s of audio wait for this stream; take() it first")
        return stream.finish()
    }

    /** The stream is over, with that much of its last block unheard: what waits is lost, too. */
    private fun abandon(unheardS: Double) = lock.withLock {
        closed = true
        stream.noteLost(unheardS + queuedSamples.toDouble() / sampleRate + refusedS)
        blocks.clear()
        queuedSamples = 0
        refusedS = 0.0
        changed.signalAll()
    }
}
