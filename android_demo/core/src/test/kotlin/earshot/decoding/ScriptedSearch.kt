package earshot.decoding

import earshot.Frames

/** Finds what a script says; what it found in the last [lag] frames is not stable yet. */
class ScriptedSearch(script: List<Emission>, private val lag: Int = 0) : Search {
    private val script = ArrayDeque(script)
    private val found = ArrayList<Emission>()
    private var frames = 0

    override val best get() = Hypothesis(found, found.count { it.frame < frames - lag })

    override fun accept(encoderOut: Frames, from: Int, to: Int) {
        frames += to - from
        while (script.isNotEmpty() && script.first().frame < frames) found += script.removeFirst()
    }

    override fun forget(count: Int) = found.subList(0, count).clear()

    override fun skip(frames: Int) {
        this.frames += frames
    }

    override fun reset() = found.clear()
}
