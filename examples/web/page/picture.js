// Pictures from files and from the camera, as ImageData.

// Some phones cannot hold a larger canvas.
const LONGEST_SIDE = 4096;

/**
 * Read a picture file, turned upright by its EXIF orientation.
 *
 * @param {Blob} file
 * @param {string} name what to call it in an error
 * @throws {Error} not a picture that this browser can read; names it
 */
export async function readPicture(file, name) {
  let bitmap;
  try {
    // Like the SDK, take the numbers as they are stored, whatever color profile the file has.
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch (error) {
    throw new Error(
      `${name} is not a picture that this browser can read: choose a JPEG, PNG or WebP file.`,
      { cause: error },
    );
  }
  const shrink = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const size = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * shrink)));
  const context = canvasOf(...size);
  context.drawImage(bitmap, 0, 0, ...size);
  bitmap.close();
  return context.getImageData(0, 0, ...size);
}

/**
 * Start the camera that looks at the user.
 *
 * @returns {Promise<{next: () => Promise<ImageData>, stop: () => void}>} `next` waits for a frame;
 *   as in a mirror, except from a camera that looks away
 * @throws {Error} there is none, or it may not be used; says what to do
 */
export async function openCamera() {
  if (!navigator.mediaDevices) {
    throw new Error(
      "Browsers give the camera to https pages and to localhost only: open this page there, " +
        "or pick a picture.",
    );
  }
  const stream = await navigator.mediaDevices
    .getUserMedia({ video: { facingMode: "user" } })
    .catch((error) => {
      throw new Error(CAMERA_ERRORS[error.name] ?? `The camera fails: ${error.message}`, {
        cause: error,
      });
    });
  const [track] = stream.getVideoTracks();
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true; // without it, phones show it on the whole screen
  video.srcObject = stream;
  await video.play();
  const mirrored = track.getSettings().facingMode !== "environment";
  const context = canvasOf(0, 0);
  const frame = () => {
    const { videoWidth: width, videoHeight: height } = video;
    Object.assign(context.canvas, { width, height });
    if (mirrored) context.setTransform(-1, 0, 0, 1, width, 0);
    context.drawImage(video, 0, 0);
    return context.getImageData(0, 0, width, height);
  };
  return {
    next: () =>
      new Promise((resolve, reject) => {
        track.onended = () => reject(new Error("The camera has gone: connect it and start again."));
        video.requestVideoFrameCallback(() => resolve(frame()));
      }),
    stop: () => track.stop(),
  };
}

const CAMERA_ERRORS = {
  NotAllowedError:
    "The camera may not be used: allow it for this page in your browser, or pick a picture.",
  NotFoundError: "No camera was found: connect one, or pick a picture.",
  NotReadableError: "The camera does not start: is another program using it?",
};

const canvasOf = (width, height) =>
  Object.assign(document.createElement("canvas"), { width, height }).getContext("2d", {
    willReadFrequently: true,
  });
