/* What the host's widgets do not do by themselves, in both renderers: texts that stay on the nodes
 * over a reload and a cached run, saved identities as pictures, and a click on a face. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const OURS = /^FantasyID/;
const OPEN_GRAPH = "fantasyid.open_graph";
const HIGHEST_PX = 168;
const TEXT = "fantasyid_text";
const [TEXT_PX, LINE_PX, MOST_LINES, MARGIN_PX] = [11, 15, 10, 4];
const LONGEST_HEADER = 1 << 20; // bytes; a file may claim what it likes
const LARGEST_PICTURE = 1 << 20; // pixels

/* ---- texts: in a widget of our own, as high as the text. The host's is 232 pixels high in Nodes 2.0,
 * goes away when a run has ended, and gets nothing from a cached node. */

function addText(node) {
    const words = document.createElement("div");
    words.className = "fantasyid-text";
    words.style.cssText = `white-space: pre-wrap; overflow-wrap: anywhere; overflow-y: auto;
        box-sizing: border-box; padding: 2px 8px; font: ${TEXT_PX}px/${LINE_PX}px sans-serif;
        color: var(--input-text); user-select: text;`;
    const height = () => {
        const across = Math.max((node.size[0] - 32) / (0.55 * TEXT_PX), 1); // letters in a line
        const lines = words.textContent.split("\n").map((one) => Math.ceil(one.length / across) || 1);
        const shown = Math.min(lines.reduce((a, b) => a + b), MOST_LINES);
        return shown * LINE_PX + 4 + 2 * MARGIN_PX;
    };
    const options = {
        serialize: false, hideOnZoom: false, margin: MARGIN_PX,
        getMinHeight: height, getMaxHeight: height,
    };
    const widget = node.addDOMWidget(TEXT, TEXT, words, options);
    widget.serialize = false;
    return widget;
}

function write(node, text) {
    if (!text) return;
    const widget = node.widgets?.find(({ name }) => name === TEXT) ?? addText(node);
    widget.element.textContent = text;
    node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
    app.canvas.setDirty(true, true);
}

const textOf = (output) => [output?.text ?? []].flat().join("\n");

/* After a reload the page knows nothing of what its graph showed; the server still does. */
async function restore() {
    const id = app.graph?.id;
    if (!id || sessionStorage.getItem(OPEN_GRAPH) !== id) return;
    sessionStorage.removeItem(OPEN_GRAPH);
    const runs = await (await api.fetchApi("/history?max_items=16")).json();
    const last = {};
    for (const run of Object.values(runs)) {
        if (run.prompt[3]?.extra_pnginfo?.workflow?.id === id) Object.assign(last, run.outputs);
    }
    for (const [key, output] of Object.entries(last)) {
        if (!OURS.test(app.graph.getNodeById(key)?.type ?? "")) continue;
        const detail = { node: key, display_node: key, output };
        api.dispatchEvent(new CustomEvent("executed", { detail }));
    }
}

/* ---- saved identities: the thumbnail stands at the end of the file */

function addressOf(name) {
    const [, path, marked] = name.match(/^(.*?)(?: \[(input|output|temp)\])?$/);
    const cut = path.lastIndexOf("/");
    const [subfolder, filename] = [path.slice(0, Math.max(cut, 0)), path.slice(cut + 1)];
    return "/view?" + new URLSearchParams({ filename, subfolder, type: marked ?? "input" });
}

async function bytesOf(address, first, end) {
    const headers = { Range: `bytes=${first}-${end - 1}` };
    const answer = await api.fetchApi(address, { headers });
    if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
    const data = await answer.arrayBuffer();
    return answer.status === 206 ? data : data.slice(first, end);
}

async function thumbnail(canvas, name) {
    const address = addressOf(name);
    const length = Number(new DataView(await bytesOf(address, 0, 8)).getBigUint64(0, true));
    if (length > LONGEST_HEADER) return;
    const header = JSON.parse(new TextDecoder().decode(await bytesOf(address, 8, 8 + length)));
    if (!header.thumbnail) return;
    const [, height, width] = header.thumbnail.shape;
    const [first, end] = header.thumbnail.data_offsets.map((place) => place + 8 + length);
    if (height * width > LARGEST_PICTURE || end - first !== 3 * height * width) return;
    const rgb = new Uint8Array(await bytesOf(address, first, end));
    const picture = new ImageData(width, height);
    for (let i = 0; i < width * height; i++) {
        picture.data.set([rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2], 255], 4 * i);
    }
    Object.assign(canvas, { width, height }).getContext("2d").putImageData(picture, 0, 0);
}

function addPicker(node) {
    const files = node.widgets?.find((widget) => widget.name === "file");
    if (!files) return;
    const grid = document.createElement("div");
    grid.className = "fantasyid-identities";
    grid.style.cssText = `display: grid; grid-template-columns: repeat(auto-fill, 76px); gap: 6px;
        align-content: start; overflow-y: auto; padding: 4px; box-sizing: border-box;`;
    const mark = () => {
        for (const one of grid.children) {
            one.style.outline = one.title === files.value ? "2px solid #3cdc5a" : "none";
        }
    };
    const fill = () => {
        const names = new Set([...files.options.values ?? [], files.value]); // R lists new ones
        grid.replaceChildren(...[...names].map((name) => {
            const one = document.createElement("button");
            one.title = name;
            one.style.cssText = `all: unset; cursor: pointer; width: 76px; font: 10px sans-serif;
                color: var(--input-text); overflow: hidden; white-space: nowrap;`;
            const canvas = document.createElement("canvas");
            canvas.style.cssText = "width: 76px; height: 76px; background: #0004; display: block;";
            one.append(canvas, name.split("/").at(-1).replace(/\.safetensors.*$/, ""));
            one.onclick = () => set(files, name);
            thumbnail(canvas, name).catch(() => { canvas.style.opacity = 0.3; });
            return one;
        }));
        mark();
    };
    const size = () => HIGHEST_PX;
    const options = { serialize: false, hideOnZoom: false, getMinHeight: size, getMaxHeight: size };
    const widget = node.addDOMWidget("identities", "fantasyid_identities", grid, options);
    widget.serialize = false;
    const chosen = files.callback;
    files.callback = function (...all) { mark(); return chosen?.apply(this, all); };
    node.fillIdentities = fill;
    requestAnimationFrame(fill); // after a loaded graph has put its value in
}

/* ---- a click on a face in the picture of a node */

function set(widget, value) {
    if (!widget) return;
    widget.value = value;
    widget.callback?.(value, app.canvas);
    app.canvas.setDirty(true, true);
    app.extensionManager.workflow?.activeWorkflow?.changeTracker?.captureCanvasState?.();
}

/* Node, and place in its picture as shares of width and height. */
function clickedPicture(event) {
    const graph = app.canvas.graph;
    const element = event.target.closest?.("[data-node-id]"); // Nodes 2.0
    if (element && !event.target.closest("button")) {
        for (const image of element.querySelectorAll("img")) {
            const { left, top, width, height } = image.getBoundingClientRect();
            const [x, y] = [event.clientX - left, event.clientY - top];
            if (x < 0 || y < 0 || x > width || y > height) continue;
            const node = graph.getNodeById(element.dataset.nodeId);
            return [node, image, x, y, width, height, Infinity];
        }
    }
    if (event.target !== app.canvas.canvas) return [];
    const [x, y] = app.canvas.convertEventToCanvasOffset(event);
    const node = graph.getNodeOnPos(x, y);
    const widget = node?.widgets?.find(({ name }) => name === "$$canvas-image-preview");
    if (!widget || node.imgs?.length !== 1) return [];
    const words = app.extensionManager.setting.get("Comfy.Node.AllowImageSizeDraw") ? 15 : 0;
    const [width, height] = [node.size[0], widget.computedHeight - words];
    return [node, node.imgs[0], x - node.pos[0], y - node.pos[1] - widget.y, width, height, 1];
}

function clickedFace(event) {
    const [node, image, x, y, width, height, most] = clickedPicture(event);
    const { naturalWidth: wide, naturalHeight: high } = image ?? {};
    const scale = Math.min(width / wide, height / high, most); // it is fitted in, in the middle
    const across = (x - (width - wide * scale) / 2) / (wide * scale);
    const down = (y - (height - high * scale) / 2) / (high * scale);
    const number = (node?.fantasyidFaces ?? []).findIndex(([x0, y0, x1, y1]) =>
        x0 <= across && across <= x1 && y0 <= down && down <= y1);
    return [node, number];
}

function chooseFace(event) {
    const [node, number] = clickedFace(event);
    if (!(number >= 0)) return;
    const widget = (name) => node.widgets.find((one) => one.name === name);
    set(widget("choose"), "left to right");
    set(widget("index"), number);
    write(node, `Face ${number} is chosen. Press Run.`);
}

app.registerExtension({
    name: "FantasyID",
    setup() {
        let from = [0, 0]; // where a drag began, which is no click
        const down = (event) => { from = [event.clientX, event.clientY]; };
        document.addEventListener("pointerdown", down, true);
        document.addEventListener("click", (event) => {
            const way = Math.hypot(event.clientX - from[0], event.clientY - from[1]);
            if (way < 5) chooseFace(event);
        }, true);
        window.addEventListener("beforeunload", () => {
            sessionStorage.setItem(OPEN_GRAPH, app.graph?.id ?? "");
        });
    },
    beforeRegisterNodeDef(nodeType, nodeData) {
        if (!OURS.test(nodeData.name)) return;
        const before = nodeType.prototype.onExecuted;
        nodeType.prototype.onExecuted = function (output) {
            before?.call(this, output);
            this.fantasyidFaces = output?.faces;
            write(this, textOf(output));
        };
    },
    nodeCreated(node) {
        if (node.comfyClass === "FantasyIDLoadIdentity") addPicker(node);
    },
    refreshComboInNodes() {
        for (const node of app.graph.nodes) node.fillIdentities?.();
    },
    onNodeOutputsUpdated(outputs) {
        for (const [key, output] of Object.entries(outputs ?? {})) {
            const node = app.graph?.getNodeById(key);
            if (!OURS.test(node?.type ?? "")) continue;
            node.fantasyidFaces = output.faces;
            write(node, textOf(output));
        }
    },
    async afterConfigureGraph() {
        await restore();
    },
});
