// Durable Task Scheduler with one task hub.
param name string
param taskHubName string
param location string
param tags object

@allowed(['Consumption', 'Dedicated'])
param skuName string

@description('Addresses from which connections are accepted; none are if it is empty.')
param ipAllowlist array

var sku = skuName == 'Dedicated' ? { name: skuName, capacity: 1 } : { name: skuName }

resource scheduler 'Microsoft.DurableTask/schedulers@2025-11-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    ipAllowlist: ipAllowlist
    sku: sku
  }
}

resource taskHub 'Microsoft.DurableTask/schedulers/taskHubs@2025-11-01' = {
  parent: scheduler
  name: taskHubName
}

output id string = scheduler.id
output name string = scheduler.name
output endpoint string = scheduler.properties.endpoint
