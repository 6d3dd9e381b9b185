// Typesets what arithmatex has marked.
document.querySelectorAll(".arithmatex").forEach((element) => {
  const found = element.textContent.match(/^\s*\\(\(|\[)([\s\S]*)\\(\)|\])\s*$/)
  if (found)
    katex.render(found[2], element, { displayMode: found[1] === "[", throwOnError: false })
})
