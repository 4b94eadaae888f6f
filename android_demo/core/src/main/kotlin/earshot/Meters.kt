package earshot

import java.io.File
import java.io.IOException

/** Memory and time, measured one way. MB are 10^6 bytes. */

/** Resident memory of this process now, in MB. Throws IOException where there is no /proc. */
fun residentMb(): Double = statusMb("VmRSS")

/** Highest resident memory of this process so far, in MB. Throws IOException where there is no /proc. */
fun peakRssMb(): Double = statusMb("VmHWM")

private fun statusMb(key: String): Double {
    val status = File("/proc/self/status")
    val line = status.useLines { lines -> lines.firstOrNull { it.startsWith("$key:") } }
        ?: throw IOException("$status has no $key")
    return line.filter { it.isDigit() }.toLong() * 1024 / 1e6 // the kernel's "kB" are KiB
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
