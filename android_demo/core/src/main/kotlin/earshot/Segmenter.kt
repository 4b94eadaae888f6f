package earshot

import earshot.decoding.EndpointDetector
import earshot.decoding.EndpointRules
import earshot.decoding.Rule
import earshot.decoding.Search

private const val QUOTED_WORDS = 3 // of a segment, in the reason of its endpoint

/**
 * What a search finds, as events; and segments, where endpoint rules cut the stream into them.
 *
 * In a silence, the end of a segment resets the search: the next segment begins with the initial
 * context, as every utterance did in training. It doesn't reset the encoder, and frames are counted on:
 * all times are those since the stream began. Without [rules] the stream is one segment.
 */
class Segmenter(
    private val search: Search,
    private val transcript: Transcript,
    private val frameS: Double,
    private val rules: EndpointRules?,
) {
    /** The text of all segments so far. */
    val text: String get() = transcript.wholeText

    /** The tokens of the open segment. */
    val tokens: List<Token> get() = transcript.segmentTokens()

    /**
     * How many frames were searched or skipped since the last token; 0 as long as the silence may still
     * bring an endpoint.
     */
    val idleFrames: Int
        get() {
            val segment = transcript.segment
            return if (detector?.due(segment) != null) 0 else frames - segment.silentFrom
        }

    private val detector = rules?.let { EndpointDetector(it, frameS) }
    private var frames = 0 // searched or skipped
    private var newWords: List<Word> = emptyList() // complete, but not told yet
    private var toldText = "" // of the open segment in the last partial
    private var toldStableText = ""

    /**
     * Search the next encoder frames `(C, joiner_dim)`, and add what became known to [events], which are
     * of the time [timeS]. The search stops where a rule is due, and the rest of the frames comes behind
     * the reset: so endpoints are exact to a frame.
     */
    fun accept(encoderOut: Frames, timeS: Double, events: MutableList<Event>) {
        var from = 0
        while (from < encoderOut.rows) {
            var count = encoderOut.rows - from
            if (detector != null) count = detector.horizon(transcript.segment, frames, atMost = count)
            searchOn(encoderOut, from, from + count)
            from += count
            while (true) endSegment(ruleNow() ?: break, timeS, events)
        }
        tellPartial(timeS, events)
    }

    /** Pass over encoder frames of a silence that [idleFrames] has allowed to be skipped. */
    fun skip(frames: Int) {
        search.skip(frames)
        this.frames += frames
    }

    /** Complete the last word and, if there are endpoint rules, the last segment. */
    fun finish(timeS: Double, events: MutableList<Event>, reason: String = "the audio ended") {
        completeWord()
        if (rules != null && transcript.text.isNotEmpty()) {
            endSegment(Rule.END, timeS, events, reason)
        } else {
            tellPartial(timeS, events)
        }
    }

    /** The complete words of all segments, for [durationS] seconds of audio. */
    fun result(durationS: Double): Result = transcript.result(durationS)

    private fun searchOn(encoderOut: Frames, from: Int, to: Int) {
        search.accept(encoderOut, from, to)
        frames += to - from
        val hypothesis = search.best
        addWords(transcript.update(hypothesis))
        search.forget(hypothesis.stable)
    }

    private fun ruleNow(): Rule? = detector?.due(transcript.segment)?.takeIf { it.frame <= frames }?.rule

    private fun endSegment(rule: Rule, timeS: Double, events: MutableList<Event>, reason: String? = null) {
        detector?.fired(rule, transcript.segment)
        if (rule != Rule.LENGTH) { // which fires while somebody speaks: search and last word go on
            completeWord()
            search.reset()
        }
        tellPartial(timeS, events)
        val tokens = transcript.segmentTokens(completeWords = true)
        val words = transcript.closeSegment()
        toldText = ""
        toldStableText = ""
        val nowS = round(frames * frameS, 3)
        events += Endpoint(
            timeS,
            rule,
            reason ?: reasonOf(rule, words),
            words.joinToString(" ") { it.text },
            words,
            startS = words.firstOrNull()?.startS ?: nowS,
            endS = words.lastOrNull()?.endS ?: nowS,
            tokens,
        )
    }

    private fun completeWord() = addWords(transcript.complete())

    private fun addWords(words: List<Word>) {
        if (words.isNotEmpty()) newWords = newWords + words
    }

    private fun tellPartial(timeS: Double, events: MutableList<Event>) {
        val text = transcript.text
        val stableText = transcript.stableText
        if (newWords.isEmpty() && text == toldText && stableText == toldStableText) return
        toldText = text
        toldStableText = stableText
        events += Partial(timeS, text, stableText, newWords)
        newWords = emptyList()
    }

    private fun reasonOf(rule: Rule, words: List<Word>): String {
        val rules = checkNotNull(rules) { "one of them fired" }
        if (rule == Rule.LENGTH) return "${general(rules.lengthS!!)} s since its first word"
        val seconds = general(if (rule == Rule.PAUSE) rules.pauseS!! else rules.silenceS!!)
        if (words.isEmpty()) return "$seconds s without a word"
        return "$seconds s of silence after '${words.takeLast(QUOTED_WORDS).joinToString(" ") { it.text }}'"
    }
}
