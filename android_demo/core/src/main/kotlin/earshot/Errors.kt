package earshot

/** Bad input or environment. The message says what was given, what was expected, what to do. */
open class AsrError(message: String, cause: Throwable? = null) : Exception(message, cause)

/** Audio that can't be used. */
class AudioError(message: String, cause: Throwable? = null) : AsrError(message, cause)

/** A model bundle that is missing, damaged, or of another version. */
class BundleError(message: String, cause: Throwable? = null) : AsrError(message, cause)

/** A budget that can't be held on this machine. The message says what would fit. */
class BudgetError(message: String) : AsrError(message)

/**
 * Memory passed its budget while a stream ran, and nothing more could be given back.
 *
 * The stream is over: [result] is the transcript of what it had recognised. [events] are those that
 * the call which threw this could not return.
 */
class BudgetExceeded(message: String, val result: Result, val events: List<Event>) : AsrError(message)
