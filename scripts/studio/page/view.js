// A picture on a canvas of its own, and a mask that is painted over it. It knows nothing of jobs or servers.

export class PictureView {
  constructor(element) {
    this.element = element;
    this.picture = document.createElement("canvas");
    this.mask = document.createElement("canvas");
    this.mask.className = "mask";
    element.append(this.picture, this.mask);
    this.masked = false;
    for (const kind of ["pointerdown", "pointermove"]) this.mask.addEventListener(kind, (event) => this.paint(event));
  }

  // Show a picture (an ImageBitmap), at its own size.
  show(bitmap) {
    if (this.picture.width !== bitmap.width || this.picture.height !== bitmap.height) {
      Object.assign(this.picture, { width: bitmap.width, height: bitmap.height });
    }
    this.picture.getContext("2d").drawImage(bitmap, 0, 0);
    this.element.classList.add("full");
  }

  // Begin with another picture: the mask is forgotten.
  begin(bitmap) {
    this.show(bitmap);
    Object.assign(this.mask, { width: bitmap.width, height: bitmap.height });
    this.masked = false;
  }

  forgetMask() {
    this.mask.getContext("2d").clearRect(0, 0, this.mask.width, this.mask.height);
    this.masked = false;
  }

  set masking(on) {
    this.element.classList.toggle("masking", on);
  }

  paint(event) {
    if (event.buttons !== 1) return;
    event.preventDefault();
    const scale = this.mask.width / this.mask.clientWidth, context = this.mask.getContext("2d");
    context.fillStyle = "#fff";
    context.beginPath();
    context.arc(event.offsetX * scale, event.offsetY * scale, this.mask.width / 18, 0, 2 * Math.PI);
    context.fill();
    this.masked = true;
    this.element.dispatchEvent(new CustomEvent("masked"));
  }

  // The mask as a PNG, white on black.
  async maskFile() {
    const whole = new OffscreenCanvas(this.mask.width, this.mask.height), context = whole.getContext("2d");
    context.fillRect(0, 0, whole.width, whole.height);
    context.drawImage(this.mask, 0, 0);
    return whole.convertToBlob({ type: "image/png" });
  }
}
