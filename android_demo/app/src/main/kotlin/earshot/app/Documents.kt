package earshot.app

import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.Context
import android.content.Intent
import android.net.Uri
import java.io.IOException

/** Text that leaves the app: to another app, or into a document that the user names. */

/** Offer [text] to other apps. */
fun Activity.shareText(text: String, title: Int): Notice? {
    val send = Intent(Intent.ACTION_SEND).setType("text/plain").putExtra(Intent.EXTRA_TEXT, text)
    return starting { startActivity(Intent.createChooser(send, getString(title))) }
}

/** Have the user name a new document; its address comes to onActivityResult. */
fun Activity.createDocument(type: String, name: String, request: Int): Notice? {
    val create = Intent(Intent.ACTION_CREATE_DOCUMENT)
        .addCategory(Intent.CATEGORY_OPENABLE)
        .setType(type)
        .putExtra(Intent.EXTRA_TITLE, name)
    return starting { startActivityForResult(create, request) }
}

/** Have the user choose a zip; its address comes to onActivityResult. */
fun Activity.chooseZip(request: Int): Notice? {
    val types = arrayOf("application/zip", "application/x-zip-compressed", "application/octet-stream")
    val choose = Intent(Intent.ACTION_OPEN_DOCUMENT)
        .addCategory(Intent.CATEGORY_OPENABLE)
        .setType("*/*")
        .putExtra(Intent.EXTRA_MIME_TYPES, types)
    return starting { startActivityForResult(choose, request) }
}

/** Write a document; return what to tell of it. */
fun Context.writeDocument(document: Uri, text: String): Notice = try {
    val stream = contentResolver.openOutputStream(document, "wt") ?: throw IOException(document.toString())
    stream.use { it.write(text.toByteArray()) }
    Notice(R.string.saved, kind = Notice.Kind.INFO)
} catch (error: IOException) {
    Notice(R.string.save_failed, error.message.orEmpty())
} catch (error: RuntimeException) { // whatever went wrong in the app that keeps the document
    Notice(R.string.save_failed, error.message.orEmpty())
}

private fun starting(start: () -> Unit): Notice? = try {
    start()
    null
} catch (_: ActivityNotFoundException) {
    Notice(R.string.no_app)
}
