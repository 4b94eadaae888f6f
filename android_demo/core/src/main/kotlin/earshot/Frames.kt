package earshot

/**
 * Rows of [width] floats, first in, first out: features, encoder output, log-probabilities.
 *
 * It keeps its memory, so a stream in steady state makes no garbage. What a function returns in one is
 * valid until that function is called again.
 */
class Frames(val width: Int) {
    /** The rows, one behind the other, from [offset] of row 0. */
    var values = FloatArray(0)
        private set

    /** How many there are. */
    var rows = 0
        private set

    private var first = 0

    /** Where row [row] begins in [values]. */
    fun offset(row: Int): Int = (first + row) * width

    /** Column [column] of row [row]. */
    operator fun get(row: Int, column: Int): Float = values[offset(row) + column]

    /** Add [count] rows of any content; return where they begin in [values]. */
    fun add(count: Int): Int {
        val capacity = values.size / width
        if (first + rows + count > capacity) {
            val source = values
            if (rows + count > capacity) values = FloatArray(maxOf(rows + count, 2 * capacity) * width)
            System.arraycopy(source, first * width, values, 0, rows * width)
            first = 0
        }
        val at = offset(rows)
        rows += count
        return at
    }

    /** Add the rows of [others]. */
    fun addAll(others: Frames) {
        val at = add(others.rows)
        System.arraycopy(others.values, others.offset(0), values, at, others.rows * width)
    }

    /** Leave the first [count] rows behind. */
    fun drop(count: Int) {
        first += count
        rows -= count
        if (rows == 0) first = 0
    }

    /** Hold [count] rows of any content, and nothing else. */
    fun resize(count: Int) {
        drop(rows)
        add(count)
    }

    /** A copy of rows [from] until [to]. */
    fun copy(from: Int = 0, to: Int = rows): FloatArray = values.copyOfRange(offset(from), offset(to))
}

/** Rows of [width] floats, copied from an array. */
fun framesOf(values: FloatArray, width: Int): Frames {
    val frames = Frames(width)
    val at = frames.add(values.size / width)
    System.arraycopy(values, 0, frames.values, at, values.size)
    return frames
}
