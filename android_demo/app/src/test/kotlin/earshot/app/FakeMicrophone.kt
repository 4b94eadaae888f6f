package earshot.app

/** Plays samples at once, then silence at the speed of sound, or is lost. */
class FakeMicrophone(
    private val samples: ShortArray,
    private val isLostAtEnd: Boolean = false,
    override val sampleRate: Int = 16_000,
) : Microphone {
    @Volatile
    var isClosed = false
        private set
    private var from = 0
    private var rest = 400 // samples that were recorded when the session stopped, and not read yet

    override fun read(block: ShortArray): Int {
        val count = minOf(block.size, samples.size - from)
        if (count > 0) {
            samples.copyInto(block, 0, from, from + count)
            from += count
            return count
        }
        if (isLostAtEnd) throw MicrophoneError(R.string.microphone_lost)
        Thread.sleep(1000L * block.size / sampleRate)
        block.fill(0)
        return block.size
    }

    override fun readRest(block: ShortArray): Int = minOf(rest, block.size).also { rest -= it }

    override fun close() {
        isClosed = true
    }
}
