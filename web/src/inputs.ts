/** The ways in: choose, drop, paste, photograph. */

import { byId, button } from "./dom";

export interface Input { readonly path: string; readonly file: Blob }

/** Connect all ways in; `take` is given what comes. */
export function connect(take: (inputs: readonly Input[]) => void): void {
  for (const id of ["choose-files", "choose-folder"]) {
    const chooser = byId<HTMLInputElement>(id);
    chooser.addEventListener("change", () => {
      take(fromList(chooser.files));
      chooser.value = ""; // the same file may be chosen again
    });
  }
  connectDrop(take);
  document.addEventListener("paste", (event) => take(fromList(event.clipboardData?.files ?? null)));
  connectCamera(take);
}

function fromList(files: FileList | null): Input[] {
  return [...(files ?? [])]
    .map((file) => ({ path: file.webkitRelativePath || file.name, file }))
    .filter(({ path }) => !isHidden(path));
}

/** Files that systems put into folders, such as .DS_Store. */
const isHidden = (path: string) => (path.split("/").pop() ?? "").startsWith(".");

function connectDrop(take: (inputs: readonly Input[]) => void): void {
  const zone = byId("drop");
  let depth = 0; // of the elements that are dragged over
  const show = (change: number) => {
    depth = Math.max(0, depth + change);
    zone.classList.toggle("over", depth > 0);
  };
  document.addEventListener("dragenter", () => show(1));
  document.addEventListener("dragleave", () => show(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    show(-depth);
    const entries = [...(event.dataTransfer?.items ?? [])].map((item) => item.webkitGetAsEntry());
    const files = fromList(event.dataTransfer?.files ?? null);
    if (entries.some((entry) => entry?.isDirectory)) {
      void Promise.all(entries.map((entry) => (entry === null ? [] : within(entry)))).then((found) => take(found.flat()));
    } else {
      take(files);
    }
  });
}

/** All files of a folder that was dropped, in the order of their names. */
async function within(entry: FileSystemEntry): Promise<Input[]> {
  const path = entry.fullPath.replace(/^\//, "");
  if (isHidden(path)) return [];
  if (entry.isFile) {
    const file = await new Promise<File>((done, fail) => (entry as FileSystemFileEntry).file(done, fail));
    return [{ path, file }];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const entries: FileSystemEntry[] = [];
  for (;;) { // a reader gives a hundred at a time
    const some = await new Promise<FileSystemEntry[]>((done, fail) => reader.readEntries(done, fail));
    if (some.length === 0) break;
    entries.push(...some);
  }
  entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  return (await Promise.all(entries.map(within))).flat();
}

function connectCamera(take: (inputs: readonly Input[]) => void): void {
  const open = byId<HTMLButtonElement>("open-camera");
  const dialog = byId<HTMLDialogElement>("camera");
  const video = byId<HTMLVideoElement>("camera-picture");
  const words = byId("camera-words");
  let stream: MediaStream | null = null;
  let number = 0;
  if (!("mediaDevices" in navigator)) {
    open.hidden = true; // an http page that is not of this machine: browsers give it no camera
    return;
  }
  const shoot = button("Take a photo", () => {
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d")?.drawImage(video, 0, 0);
    canvas.toBlob((file) => {
      if (file === null) return;
      number += 1;
      words.textContent = `Photo ${number} was taken: close the camera to see its result, or take another.`;
      take([{ path: `camera-${number}.png`, file }]);
    }, "image/png");
  }, { class: "first" });
  byId("camera-buttons").append(shoot, button("Close", () => dialog.close()));
  open.addEventListener("click", () => {
    words.textContent = "Waiting for permission to use the camera.";
    shoot.disabled = true;
    dialog.showModal();
    navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } }).then(
      async (granted) => {
        if (!dialog.open) return granted.getTracks().forEach((track) => track.stop());
        stream = granted;
        video.srcObject = granted;
        await video.play(); // until then there is no picture to take
        words.textContent = "Photos are classified like any other image.";
        shoot.disabled = false;
        shoot.focus();
      },
    ).catch(
      (error: unknown) => {
        const name = error instanceof DOMException ? error.name : "";
        words.textContent =
          name === "NotAllowedError" ? "Access to the camera was denied. Allow it for this page in the browser's settings, or choose image files."
          : name === "NotFoundError" ? "This device has no camera."
          : "The camera cannot be used; another program may be using it.";
      },
    );
  });
  dialog.addEventListener("close", () => {
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    video.srcObject = null;
  });
}
