package earshot.app

import android.annotation.SuppressLint
import android.content.Context
import android.media.AudioFormat
import android.media.AudioManager
import android.media.AudioRecord
import android.media.AudioRecordingConfiguration
import android.media.MediaRecorder

private const val BUFFER_S = 2 // that the system keeps while this app is kept from running
private val RATES = listOf(16_000, 48_000, 44_100) // Hz, the model's own first; core resamples the others

/** The microphone can't be opened, or was lost. [reason] is a string resource that says which. */
class MicrophoneError(val reason: Int) : Exception()

/** A microphone that records: mono, 16 bit. */
interface Microphone : AutoCloseable {
    /** Hz. */
    val sampleRate: Int

    /** Wait for samples; return how many [block] got, at least one. Throws MicrophoneError. */
    fun read(block: ShortArray): Int

    /** The same without waiting: 0 when all that was recorded has been read. */
    fun readRest(block: ShortArray): Int

    override fun close()
}

/** Opens the microphone. */
fun interface Microphones {
    /** [onSilenced] is told when another app takes the microphone and gives it back. Throws MicrophoneError. */
    fun open(onSilenced: (Boolean) -> Unit): Microphone
}

/** Open the system's microphone, at the first rate that it takes. Throws MicrophoneError. */
fun openMicrophone(context: Context, onSilenced: (Boolean) -> Unit): Microphone {
    for (rate in RATES) {
        val record = tryRate(rate) ?: continue
        return AndroidMicrophone(context, record, onSilenced)
    }
    throw MicrophoneError(R.string.microphone_unavailable)
}

@SuppressLint("MissingPermission") // whoever starts a session has asked for it
private fun tryRate(rate: Int): AudioRecord? {
    val least = AudioRecord.getMinBufferSize(rate, AudioFormat.CHANNEL_IN_MONO, AudioFormat.ENCODING_PCM_16BIT)
    if (least <= 0) return null
    val record = try {
        AudioRecord(
            MediaRecorder.AudioSource.VOICE_RECOGNITION,
            rate,
            AudioFormat.CHANNEL_IN_MONO,
            AudioFormat.ENCODING_PCM_16BIT,
            maxOf(least, BUFFER_S * rate * Short.SIZE_BYTES),
        )
    } catch (_: IllegalArgumentException) { // how some devices say that they don't have this rate
        return null
    }
    if (record.state == AudioRecord.STATE_INITIALIZED) return record
    record.release()
    return null
}

private class AndroidMicrophone(
    context: Context,
    private val record: AudioRecord,
    onSilenced: (Boolean) -> Unit,
) : Microphone {
    override val sampleRate = record.sampleRate

    private val watch = object : AudioManager.AudioRecordingCallback() {
        override fun onRecordingConfigChanged(configs: List<AudioRecordingConfiguration>) {
            configs.find { it.clientAudioSessionId == record.audioSessionId }?.let { onSilenced(it.isClientSilenced) }
        }
    }

    init {
        record.registerAudioRecordingCallback(context.mainExecutor, watch)
        try {
            record.startRecording()
        } catch (_: IllegalStateException) {
            close()
            throw MicrophoneError(R.string.microphone_unavailable)
        }
        if (record.recordingState != AudioRecord.RECORDSTATE_RECORDING) { // such as during a call
            close()
            throw MicrophoneError(R.string.microphone_unavailable)
        }
    }

    override fun read(block: ShortArray): Int {
        val count = record.read(block, 0, block.size, AudioRecord.READ_BLOCKING)
        if (count <= 0) throw MicrophoneError(R.string.microphone_lost) // ERROR_DEAD_OBJECT, or stopped
        return count
    }

    override fun readRest(block: ShortArray): Int =
        maxOf(0, record.read(block, 0, block.size, AudioRecord.READ_NON_BLOCKING))

    override fun close() {
        record.unregisterAudioRecordingCallback(watch)
        record.release() // stops it first
    }
}
