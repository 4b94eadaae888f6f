package earshot.app

import android.content.Context

/** Something to tell: a string resource and its arguments. */
data class Notice(val text: Int, val arguments: List<Any> = emptyList(), val kind: Kind = Kind.ERROR) {
    enum class Kind(val ink: Int, val paper: Int) {
        INFO(R.color.accent, R.color.accent_soft),
        WARNING(R.color.warning, R.color.warning_soft),
        ERROR(R.color.error, R.color.error_soft),
    }

    constructor(text: Int, argument: Any, kind: Kind = Kind.ERROR) : this(text, listOf(argument), kind)

    fun text(context: Context): String = context.getString(text, *arguments.toTypedArray())
}
