package earshot

import earshot.decoding.Emission
import earshot.decoding.Hypothesis
import earshot.decoding.Segment
import kotlin.math.exp

/** U+2581: the mark of SentencePiece at the head of a piece that begins a word. */
const val WORD_START = "▁"

/**
 * Follows the best hypothesis of a search; words come out once they are complete.
 *
 * A word is complete when the next one begins, or when its segment or the transcript is closed, and only
 * stable tokens complete words. [text] is that of the open segment: without endpoints, the only one.
 * Everything else in a stream has a fixed size; only this grows, with the text.
 */
class Transcript(private val pieces: List<String>, private val frameS: Double) {
    /** The words of the open segment so far, the unfinished one included. */
    var text = ""
        private set

    /** The part of [text], from its beginning, to which later text is only appended. */
    var stableText = ""
        private set

    /** The words of all segments. */
    val wholeText: String get() = joined(earlierText, text)

    private class Span(val from: Int, val to: Int)

    private val emissions = ArrayList<Emission>() // the stable tokens of the whole stream
    private var unstable: List<Emission> = emptyList()
    private val words = ArrayList<Span>() // the complete ones: where their tokens begin and end
    private var earlierText = "" // of the closed segments
    private var segmentFrom = 0 // the first word of the open segment
    private var closedText = "" // the complete words of the open segment ...
    private var openText = "" // ... the word that may still grow ...
    private var openFrom = 0 // ... and the index of its first token

    /** Where the open segment stands, for the endpoint rules. */
    val segment: Segment
        get() {
            val hasWords = words.size > segmentFrom
            val first = when {
                hasWords -> emissions[words[segmentFrom].from].frame
                openText.isNotEmpty() -> emissions[openFrom].frame
                else -> unstable.firstOrNull()?.frame
            }
            val last = unstable.lastOrNull() ?: emissions.lastOrNull()
            return Segment(if (last == null) 0 else last.frame + 1, first, hasWords)
        }

    /** Follow the search, which then forgets what is stable; return the words that became complete. */
    fun update(hypothesis: Hypothesis): List<Word> {
        val firstNew = words.size
        val all = hypothesis.emissions
        val changed = hypothesis.stable > 0 || all.size != unstable.size || all != unstable
        if (changed) {
            for (i in 0 until hypothesis.stable) append(all[i])
            unstable = all.subList(hypothesis.stable, all.size).toList()
            writeText()
        }
        return wordsFrom(firstNew)
    }

    /** Take the hypothesis as final, so that its last word is complete; return the new complete words. */
    fun complete(): List<Word> {
        val firstNew = words.size
        for (emission in unstable) append(emission)
        unstable = emptyList()
        completeWord()
        writeText()
        return wordsFrom(firstNew)
    }

    /**
     * Return the complete words of the open segment. The next one begins behind them, with the word that
     * may still grow if there is one.
     */
    fun closeSegment(): List<Word> {
        val closed = wordsFrom(segmentFrom)
        segmentFrom = words.size
        earlierText = joined(earlierText, closedText)
        closedText = ""
        writeText()
        return closed
    }

    /** The tokens of [text], or only those of its complete words. */
    fun segmentTokens(completeWords: Boolean = false): List<Token> {
        val first = if (words.size > segmentFrom) words[segmentFrom].from else openFrom
        if (completeWords) return tokens(emissions.subList(first, openFrom))
        return tokens(emissions.subList(first, emissions.size) + unstable)
    }

    /** The complete words of all segments, for [durationS] seconds of audio. */
    fun result(durationS: Double): Result {
        val all = wordsFrom(0)
        return Result(
            all.joinToString(" ") { it.text },
            all,
            tokens(emissions),
            round(durationS, 6),
            geometricMean(emissions),
        )
    }

    private fun tokens(emissions: List<Emission>) =
        emissions.map { Token(pieces[it.token], seconds(it.frame), probability(it.logProb)) }

    private fun append(emission: Emission) {
        val piece = pieces[emission.token]
        if (piece.startsWith(WORD_START)) completeWord()
        openText += piece.removePrefix(WORD_START)
        emissions += emission
    }

    private fun completeWord() {
        if (openText.isNotEmpty()) {
            // A piece may be a bare word mark, so the tokens before the first letter belong here.
            words += Span(openFrom, emissions.size)
            closedText = joined(closedText, openText)
            openText = ""
        }
        openFrom = emissions.size
    }

    private fun writeText() {
        var closed = closedText
        var word = openText
        stableText = joined(closed, word)
        for (emission in unstable) {
            val piece = pieces[emission.token]
            if (piece.startsWith(WORD_START)) {
                closed = joined(closed, word)
                word = ""
            }
            word += piece.removePrefix(WORD_START)
        }
        text = if (unstable.isEmpty()) stableText else joined(closed, word)
    }

    private fun wordsFrom(first: Int): List<Word> =
        if (first == words.size) emptyList() else List(words.size - first) { word(words[first + it]) }

    private fun word(span: Span): Word {
        val tokens = emissions.subList(span.from, span.to)
        return Word(
            tokens.joinToString("") { pieces[it.token].removePrefix(WORD_START) },
            seconds(tokens.first().frame),
            seconds(tokens.last().frame + 1),
            geometricMean(tokens),
        )
    }

    // As Python's round(frame * frame_s, 3): no frame ends half way between two milliseconds.
    private fun seconds(frame: Int) = Math.rint(1000 * (frame * frameS)) / 1000
}

private fun joined(text: String, word: String) =
    if (text.isNotEmpty() && word.isNotEmpty()) "$text $word" else text.ifEmpty { word }

// Rounding in the joiner may leave a log-probability a little above zero.
private fun probability(logProb: Double) = minOf(1.0, exp(logProb))

private fun geometricMean(emissions: List<Emission>) =
    if (emissions.isEmpty()) 0.0 else probability(emissions.sumOf { it.logProb } / emissions.size)
