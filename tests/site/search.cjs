// Prints what the search of the site finds: its own worker, fed as the page feeds it.
// node search.cjs SITE QUERY...
const fs = require("fs"), path = require("path"), vm = require("vm")

const [site, ...queries] = process.argv.slice(2)
const workers = path.join(site, "assets/javascripts/workers")
const file = fs.readdirSync(workers).find((name) => /^search\..*\.js$/.test(name))
const { config, docs } = JSON.parse(fs.readFileSync(path.join(site, "search/search_index.json")))

let listener, answered
const scope = {
  console,
  addEventListener: (_, f) => { listener = f },
  postMessage: (message) => answered(message),
}
scope.self = scope
vm.runInNewContext(fs.readFileSync(path.join(workers, file), "utf8"), scope)

const ask = (type, data) => new Promise((done) => { answered = done; listener({ data: { type, data } }) })

async function main() {
  await ask(0, { config, docs, options: { suggest: true } })
  const found = {}
  for (const query of queries) {
    const { data } = await ask(2, query)
    found[query] = data.items.map((group) => [group[0].location.split("#")[0], group[0].location])
  }
  console.log(JSON.stringify(found))
}

main()
