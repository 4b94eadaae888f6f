package earshot

import java.io.IOException
import java.io.RandomAccessFile

/** Memory and time, measured one way. MB are 10^6 bytes. */

private const val STATUS = "/proc/self/status"
private val RESIDENT = "VmRSS:".toByteArray()
private val PEAK = "VmHWM:".toByteArray()

/** Resident memory of this process now, in MB. Throws IOException where there is no /proc. */
fun residentMb(): Double = Status.mb(RESIDENT)

/** Highest resident memory of this process so far, in MB. Throws IOException where there is no /proc. */
fun peakRssMb(): Double = Status.mb(PEAK)

/**
 * What the kernel tells of this process. It is asked behind every chunk of a stream with a budget of
 * memory, so the file stays open and is read where it was read before: it makes no garbage.
 */
private object Status {
    private val file by lazy { RandomAccessFile(STATUS, "r") }
    private val content = ByteArray(1 shl 12) // what is looked for is in the first 1.5 kB

    @Synchronized
    fun mb(key: ByteArray): Double {
        file.seek(0)
        val size = maxOf(0, file.read(content))
        var line = 0
        while (line < size) {
            if (starts(line, size, key)) return number(line + key.size, size) * 1024 / 1e6 // its "kB" are KiB
            while (line < size && content[line] != END_OF_LINE) line++
            line++
        }
        throw IOException("$STATUS has no ${String(key)}")
    }

    private fun starts(at: Int, size: Int, key: ByteArray): Boolean {
        if (at + key.size > size) return false
        for (i in key.indices) if (content[at + i] != key[i]) return false
        return true
    }

    /** The digits from [at] to the end of the line. */
    private fun number(at: Int, size: Int): Long {
        var value = 0L
        for (i in at until size) {
            if (content[i] == END_OF_LINE) break
            val digit = content[i] - '0'.code
            if (digit in 0..9) value = 10 * value + digit
        }
        return value
    }

    private const val END_OF_LINE = '\n'.code.toByte()
}

/** Nanoseconds from any origin. */
fun interface Clock {
    fun nanos(): Long
}

/**
 * Real-time factor: wall time spent computing over the length of the audio. Every stream has one;
 * nothing else computes an RTF.
 *
 * [cpuClock] is that of the calling thread, such as Android's `Debug::threadCpuTimeNanos`.
 */
class RtfMeter(private val clock: Clock = Clock(System::nanoTime), private val cpuClock: Clock? = null) {
    var computeS = 0.0
        private set
    var cpuS = 0.0
        private set
    var audioS = 0.0
        private set

    /** Compute time over audio time; 0 before any audio. */
    val rtf: Double get() = if (audioS > 0) computeS / audioS else 0.0

    /** Count the time of [block], also when it throws. Blocks must not nest. */
    fun <T> computing(block: () -> T): T {
        val started = clock.nanos()
        val cpuStarted = cpuClock?.nanos() ?: 0
        try {
            return block()
        } finally {
            computeS += (clock.nanos() - started) / 1e9
            cpuS += ((cpuClock?.nanos() ?: 0) - cpuStarted) / 1e9
        }
    }

    /** Count audio that was given to the computation. */
    fun addAudio(seconds: Double) {
        audioS += seconds
    }
}
