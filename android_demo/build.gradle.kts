// The app for who has an Android SDK: `gradle assembleDebug`, or open this folder in Android Studio.
// The sources are those that pom.xml builds and tests without one. This file was not run where it was
// written: Google's repository, with the plugin, can't be reached from there.

plugins {
    id("com.android.application") version "8.13.0" // needs Gradle 8.13 or later
    id("org.jetbrains.kotlin.android") version "2.4.21"
}

val copyAssets = tasks.register<Copy>("copyAssets") {
    from("../asr/models/en") { into("models/en") }
    from("../data/golden/model/recordings.npz") { into("recordings") }
    from("../data/samples/manifest.jsonl") { into("recordings") }
    into(layout.buildDirectory.dir("assets"))
}

android {
    namespace = "earshot.app"
    compileSdk = 36

    defaultConfig {
        applicationId = "earshot.app"
        minSdk = 29
        targetSdk = 34
        versionCode = 1
        versionName = "0.1.0"
        ndk { abiFilters += listOf("arm64-v8a", "x86_64") }
    }

    sourceSets["main"].apply {
        manifest.srcFile("app/src/main/AndroidManifest.xml")
        res.setSrcDirs(listOf("app/src/main/res"))
        kotlin.setSrcDirs(listOf("core/src/main/kotlin", "app/src/main/kotlin"))
        assets.setSrcDirs(listOf(layout.buildDirectory.dir("assets").get().asFile))
    }

    androidResources { noCompress += listOf("onnx", "npz") }

    // Uncompressed, so that this plugin (8.5.1 and later) aligns them to pages of 16 KB.
    packaging { jniLibs { useLegacyPackaging = false } }
}

kotlin { jvmToolchain(17) }

tasks.named("preBuild") { dependsOn(copyAssets) }

dependencies {
    // That of core/pom.xml: 1.29 and later send telemetry home (OnnxEngine.kt).
    implementation("com.microsoft.onnxruntime:onnxruntime-android:1.28.0")
}
